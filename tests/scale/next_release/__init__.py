"""The release after this one, as far as an upgrade is about it: the same site with three more migrations.

The processes of this release play the one before it.
"""
