"""HTML for notebooks: pages, their style sheet, and spaces on them."""
