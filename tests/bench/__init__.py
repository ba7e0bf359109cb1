"""The benchmark: the edge and its peers side by side, each on one core, under the same application and loads."""
