"""Which addresses webhooks may go to."""

import pytest

from common.webhook_targets import RefusedTargetError, check


@pytest.mark.parametrize(
    "url",
    [
        "http://203.0.113.7/hook",
        "https://127.0.0.1/hook",
        "https://[::1]/hook",
        "https://10.0.0.8/hook",
        "https://192.168.1.1/hook",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:127.0.0.1]/hook",
        "https://[fe80::1]/hook",
        "https://0.0.0.0/hook",
        "https://localhost/hook",
        "https://2130706433/hook",
        "https://224.0.0.1/hook",
        "https://user:password@93.184.216.34/hook",
        "https:///hook",
        "ftp://93.184.216.34/hook",
        "https://93.184.216.34:notaport/hook",
        "not a url",
    ],
)
def test_an_address_that_is_not_public_https_is_refused(url: str) -> None:
    with pytest.raises(RefusedTargetError):
        check(url, allow_private=False)


def test_a_public_https_address_is_taken() -> None:
    check("https://93.184.216.34/hook", allow_private=False)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000/hook", "https://10.0.0.8/hook"])
def test_a_private_address_is_taken_where_the_setting_allows_it(url: str) -> None:
    check(url, allow_private=True)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/hook", "http://user@127.0.0.1/", "http:///x"])
def test_nonsense_is_refused_even_there(url: str) -> None:
    with pytest.raises(RefusedTargetError):
        check(url, allow_private=True)
