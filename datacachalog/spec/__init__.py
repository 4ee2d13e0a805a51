"""What the user wrote: catalog.yaml read, validated, completed and edited."""
