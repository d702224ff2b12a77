"""`rexnet-export`: flags, tables and the report page."""
