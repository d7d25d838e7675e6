"""What drives this library from outside: ptychodus and MLflow."""
