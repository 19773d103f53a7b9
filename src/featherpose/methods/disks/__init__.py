"""Disks and offsets, the method of G-RMI."""
