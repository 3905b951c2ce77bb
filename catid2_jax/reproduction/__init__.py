"""The paper's tables: which systems stand in them, what they measure, and how they are written."""
