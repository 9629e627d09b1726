"""Trained nets made smaller and faster: fewer channels, int8, tables of what each costs."""
