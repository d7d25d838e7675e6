"""Entry points for other programs that call this library: ptychodus and MLflow."""
