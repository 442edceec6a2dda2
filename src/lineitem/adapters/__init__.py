"""One engine, one folder: what implements a port with something outside lineitem."""
