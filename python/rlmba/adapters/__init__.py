"""Our strategies for other code: its files, and the interfaces of other active-learning libraries.

Each module but ``files`` belongs to a library and imports it, so it is imported by name and only where
that library is installed::

    from rlmba.adapters import skactiveml  # scikit-activeml
    from rlmba.adapters import modal       # modAL; the library itself is not imported
    from rlmba.adapters import baal
    from rlmba.adapters import small_text
"""
