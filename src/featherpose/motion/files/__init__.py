"""Files in and out: poses, events and measures as JSON, tables, TRC, MOT, C3D and BVH."""
