"""The plugin for pytest, in a run of its own."""


def test_the_fixture_is_there_with_its_marker_and_its_option(pytester):
    pytester.makepyfile(
        """
        import pytest, jitney

        def test_usual(board):
            assert isinstance(board, jitney.EmulatedCard) and board.board.name == "NiteFury"

        @pytest.mark.board("litefury", memory=1 << 20)
        def test_chosen(board):
            assert board.board.name == "LiteFury"

        def test_closed(request):
            pass
        """
    )
    pytester.runpytest_subprocess("--strict-markers").assert_outcomes(passed=3)
    helped = pytester.runpytest_subprocess("--help")
    helped.stdout.fnmatch_lines(["*--jitney-card=CARD*"])


def test_a_real_card_is_used_where_one_is_named(pytester, broker, monkeypatch):
    monkeypatch.setenv("JITNEY_BROKER", str(broker("--emulate", "nitefury")))
    pytester.makepyfile(
        """
        import pytest, jitney

        def test_usual(board):
            assert not isinstance(board, jitney.EmulatedCard) and board.board.name == "NiteFury"

        @pytest.mark.board("litefury")
        def test_chosen(board):
            raise AssertionError
        """
    )
    pytester.runpytest_subprocess("--jitney-card", "NiteFury").assert_outcomes(passed=1, skipped=1)
