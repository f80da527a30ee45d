"""The company of the laboratory with a branch: two Asterisks, joined, under one daemon."""

from lab.company import AnAgent, Company
from lab.laboratory import eventually

ACROSS = """
[from-trunk]
exten => 1,1,Dial(PJSIP/ben@peer-branch,10)
exten => 2,1,Dial(PJSIP/anna@peer-main,10)
"""


def test_a_company_with_a_branch_has_two_asterisks_that_call_each_other_and_one_daemon(tmp_path):
    with Company(
        tmp_path,
        agents=[AnAgent("anna")],
        branches={"branch": [AnAgent("ben", groups=["branch"])]},
        more_extensions=ACROSS,
    ) as company:
        company.start()
        eventually(lambda: company.daemon.metric("cti_ami_up", pbx="branch") == 1, what="AMI of the branch")

        assert company.call(did="1", talk_ms=50).wait().final == 200
        assert company.call(did="2", pbx="branch", talk_ms=50).wait().final == 200
        assert [len(company.phones[name].invites) for name in ("anna", "ben")] == [1, 1]
        assert set(company.daemon.agents()) == {"anna", "ben"}

        assert company.call(talk_ms=50).wait().final == 200
        assert company.call(pbx="branch", talk_ms=50).wait().final == 200
        eventually(lambda: {call["pbx"] for call in company.daemon.calls()} == {"main", "branch"})
