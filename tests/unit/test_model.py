"""The words of the project as shapes."""
