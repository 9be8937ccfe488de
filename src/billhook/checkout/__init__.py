"""Checkout Sessions and Billing Portal Sessions."""
