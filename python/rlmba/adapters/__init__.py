"""Strategies for other code: selection on files, and interfaces of other active-learning libraries.

Each module except ``files`` belongs to one library. Import it by name; most require that the library is
installed::

    from rlmba.adapters import skactiveml  # scikit-activeml
    from rlmba.adapters import modal       # modAL; does not import the library
    from rlmba.adapters import baal
    from rlmba.adapters import small_text
"""
