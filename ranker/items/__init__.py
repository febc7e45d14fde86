"""What is known of every item (the catalogue), and what one model version has learned of it (the tables)."""
