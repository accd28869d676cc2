"""Mail servers: what their replies mean (`replies`), one connection (`connection`), many at work (`carrier`)."""
