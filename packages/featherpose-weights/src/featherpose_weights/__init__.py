"""The FP16 weights of featherpose's bundled network; featherpose finds the file beside this one."""
