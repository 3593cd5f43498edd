"""Encoders as users take them: frozen or wrapped (``encoder``), found by name (``loading``), in files for elsewhere
(``export``), at work on a folder of pictures (``embedding``) or completing single ones (``complete``).
"""
