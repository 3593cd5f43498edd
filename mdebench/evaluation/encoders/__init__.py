"""Encoders as users take them: frozen or wrapped (``encoder``), found by name (``loading``), in files for elsewhere
(``export``), at work on a folder of pictures (``embedding``) or completing a user's own (``complete``), which are read
by ``own_pictures`` and masked by ``mask_files``.
"""
