"""VersionedPusher: pushes a blessed model once, as the next numbered version."""
