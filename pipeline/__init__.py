"""From a checkpoint to proven artifacts: vocabulary, model, data, graph, artifacts, proof, and the one loop."""
