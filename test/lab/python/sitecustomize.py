"""What fail2ban 0.11 imports from a Python that is younger than itself: names that 3.10 has moved."""
import collections
import collections.abc

for name in ("Mapping", "MutableMapping"):
    if not hasattr(collections, name):
        setattr(collections, name, getattr(collections.abc, name))
