"""`rexnet-export sweep`: many exports at once, put side by side, and the one to ship picked."""
