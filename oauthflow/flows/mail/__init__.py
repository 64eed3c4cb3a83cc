"""E-mail to people: what needs them, at once or once a week."""
