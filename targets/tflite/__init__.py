"""TFLite: `.tflite` files, the table stamped into them."""
