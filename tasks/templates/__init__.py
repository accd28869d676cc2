"""Templates: read from files, checked, guarded as HTML, and rendered row by row in Jinja's sandbox."""
