"""Signs the document.

    permissions.py, seeds.py     what earlier signatures allow, what a field asks for
    keys.py, hsm.py              the key that signs, in a file or in a token
    algorithms.py                what it may sign with       certificates.py   who issued whom
    byte_range.py                the signature's place in the file
    signature.py, der.py         the CMS that goes there (PAdES B-B)
    timestamp.py                 a timestamp over it (B-T)   security_store.py evidence for later (B-LT)

Stands on `reading`, `placing` and `revision`; knows nothing of `drawing`.
"""
