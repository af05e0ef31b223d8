"""Thin routers: parse, ask for a page, render it."""
