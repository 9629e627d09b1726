"""How well trained models do as damage grows: what is measured, compared and drawn."""
