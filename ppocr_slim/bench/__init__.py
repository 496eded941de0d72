"""Reports: pictures, tables, the demo."""
