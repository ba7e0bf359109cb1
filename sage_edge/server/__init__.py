"""Owns sockets, threads, processes and the loading of gateways."""
