"""Reads for the API and the dashboard: lists, pages, totals and the catalog."""
