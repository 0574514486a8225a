"""The one strict checkpoint reader."""
