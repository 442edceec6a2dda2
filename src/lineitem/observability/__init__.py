"""What is measured, traced, logged and answered about the pipeline's health; knows no database and no broker."""
