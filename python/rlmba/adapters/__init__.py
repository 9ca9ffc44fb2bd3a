"""The strategies for other code: on files, and through the interfaces of active-learning libraries.

Each module except ``files`` belongs to a library and imports it. Import it by name, and only if that
library is installed::

    from rlmba.adapters import skactiveml  # scikit-activeml
    from rlmba.adapters import modal       # modAL; the library itself is not imported
    from rlmba.adapters import baal
    from rlmba.adapters import small_text
    from rlmba.adapters import fiftyone
    from rlmba.adapters import fiftyone_operator  # loaded by FiftyOne's App
"""
