"""What a study cannot say, whatever came out: one arm is compared with nothing, one seed shows no chance."""

from analysis.load import Study


def limits(study: Study) -> tuple[str, ...]:
    """What can be said all the same, what cannot, and what it would take; empty for two arms on two seeds.

    Only runs that count are asked.
    """
    arms, seeds = study.runs["arm"].unique(), study.runs["seed"].unique()
    found = []
    if len(arms) == 1:
        found.append(
            f"one arm only ({arms[0]}): what it did to each step is shown, and claims about a single arm are judged; "
            "nothing can be compared. Run another arm beside it, such as clip=none,fixed,delayed"
        )
    if len(seeds) == 1:
        found.append(
            f"one seed only ({seeds[0]}): what each technique did to the steps is shown; no difference can be told "
            "from chance, and no claim is judged. Add seeds to the same command: seed=0,1,2,3,4"
        )
    return tuple(found)
