"""Document IDs by discrete auto-encoding, level by level, after GenRet (Sun et al., 2023)."""
