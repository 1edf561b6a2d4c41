from hw.boards.lease import Lease


class Clock:
    """A fake clock that is set by hand."""

    now = 0.0

    def __call__(self):
        return self.now


def test_only_one_holds_it_until_it_is_released():
    lease = Lease(10, Clock())
    assert lease.take(1)
    assert not lease.take(2)
    lease.release(2)
    assert lease.holder == 1
    lease.release(1)
    assert lease.holder == 0
    assert lease.take(2)


def test_who_does_not_use_it_loses_it():
    clock = Clock()
    lease = Lease(10, clock)
    lease.take(1)
    clock.now = 9.0
    assert lease.refresh()
    clock.now = 18.9
    assert lease.holder == 1
    assert not lease.take(1)  # prolonged, not new
    clock.now = 29.0
    assert lease.holder == 0
    assert not lease.refresh()


def test_zero_is_no_token():
    lease = Lease(10, Clock())
    assert not lease.take(0)
    assert lease.holder == 0
