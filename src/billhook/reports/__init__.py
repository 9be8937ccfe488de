"""What is read: lists, pages, totals and the catalog."""
