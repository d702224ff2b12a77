"""One zip that holds everything a device needs."""
