"""The click rule of the simulated log: the true probability of a click, and what follows.

The rule was fixed before any model was trained on it and is not to be tuned. With
``sigmoid(x) = 1 / (1 + exp(-x))``, the probability that user ``u`` clicks item ``i`` of category
``c`` and theme ``t``, at position ``p`` (from 0) of a page, with ``L`` events of the user at
strictly earlier times, is ``sigmoid`` of the sum of

============  ==========================================================================
base          ``base``
user          ``age[u] + country[u] + device[u] + account * (ln(1 + days) - 5.5) + free[u]``,
              ``free ~ N(0, user_free)``: only behaviour shows it
item          ``category[c] + author[a] + own[i] + duration * (ln(seconds) - 3.4)``,
              ``own ~ N(0, own_rare + own_common * k)``
position      ``position * ln(1 + p) * (1 - position_common * k)``
surface       ``surface[s]``
hour          ``hour * cos(2 pi (h - 21) / 24)``, ``h`` the hour in UTC
habituation   ``habituation * ln(1 + m) * k``, ``m`` earlier exposures of ``u`` to ``i``
interest      ``interest * (1 + interest_rare * (1 - k)) * A``
============  ==========================================================================

``k = n / (n + common_half)`` is how common the item is, ``n`` its expected number of
impressions. So a common item is judged by a quality of its own that many samples show, wears
off with repeated exposure and cares little for its position; a rare one is known by its author
and category, and by whether it suits the user.

The affinity ``A`` is a function of the user's strictly earlier events ``e`` alone, so a model
that reads the history can know it:

    A = B(P, N) - contrast * B(P of all categories, N of all categories)
    B(P, N) = (P - N) / (shrink + P + N)
    P = sum of  near(e) * exp(-d(e) / memory) * gain[action of e]   over clicks, likes, shares
    N = sum of  near(e) * exp(-d(e) / memory) * loss[action of e]   over exposures and hides
    near(e) = 1 in the target's category, related * sharpness / (L + sharpness)
              in another category of its theme, 0 elsewhere

``d(e)`` is the number of the user's events after the page of ``e`` and before the target's page.
The second term of ``A`` sums with ``near(e) = 1`` throughout: what is liked more than the rest of
the feed is clicked, so the overall click rate of a history says little.

Each click in a category makes the next one likelier and each exposure passed over less likely,
which drives a user towards liking or avoiding the category; the finite memory lets that turn
around, and the browsed categories change as well, so interests drift. With a short history one
event says something about all four categories of its theme; with a long one only about its own
category, so the match must be sharper, and what lies further back than a few ``memory`` misleads.
Affinity decides what is clicked, not what is shown, so it is the actions tied to the related
events that tell it: the mean over a whole history does not.

A click turns into a like with probability ``sigmoid(like[0] + like[1] * A)`` and, independently,
into a share likewise; a row without a click turns into a hide likewise. An event counts by its
strongest action: hide, share, like, click, exposure. A click is watched for a Beta(2, 2) share of
the duration; else the dwell time is exponential with a mean of 1.5 s.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClickRule:
    """Constants of the rule in the module's docstring; logits unless stated.

    Attributes:
        base: constant term.
        age: effect of each age group.
        country: effect of each country.
        device: effect of each device.
        account: effect of the logarithm of the account's age.
        user_free: standard deviation of a user's own bias.
        category: standard deviation of a category's quality.
        author: standard deviation of an author's quality.
        own_rare: standard deviation of the own quality of a rare item.
        own_common: what a common item has more.
        duration: effect of the logarithm of the duration.
        common_half: impressions at which an item counts as half common.
        position: effect of ``ln(1 + position)`` for a rare item.
        position_common: share of it that a common item loses.
        surface: effect of each surface.
        hour: effect of the hour.
        habituation: effect of the logarithm of earlier exposures to a common item.
        interest: effect of the affinity.
        interest_rare: share of it that a rare item has more.
        like, share, hide: constant term and effect of the affinity on a click's being liked or
            shared, and on hiding what was not clicked.
        gain_click, gain_like, gain_share: what a click, like, share adds to ``P`` (counts).
        loss_exposure, loss_hide: what an exposure without a click, a hide adds to ``N`` (counts).
        shrink: count at which the affinity is half of its full size.
        memory: events after which an event counts 1/e.
        related: weight of the theme's other categories for an empty history.
        sharpness: events at which that weight has halved.
        contrast: share of the user's balance over all categories that is taken off.
    """

    base: float = -1.3
    age: tuple[float, ...] = (0.25, 0.1, 0.0, -0.15, -0.25)
    country: tuple[float, ...] = (0.2, -0.15, -0.05, 0.0, 0.15, -0.25, 0.1, 0.0)
    device: tuple[float, ...] = (0.05, 0.1, -0.3)
    account: float = -0.08
    user_free: float = 0.3
    category: float = 0.2
    author: float = 0.4
    own_rare: float = 0.2
    own_common: float = 0.5
    duration: float = -0.12
    common_half: float = 50.0
    position: float = -0.35
    position_common: float = 0.6
    surface: tuple[float, ...] = (0.0, 0.35, -0.25)
    hour: float = 0.1
    habituation: float = -0.35
    interest: float = 2.3
    interest_rare: float = 0.4
    like: tuple[float, float] = (-1.6, 0.8)
    share: tuple[float, float] = (-3.0, 0.6)
    hide: tuple[float, float] = (-3.6, -1.4)
    gain_click: float = 1.0
    gain_like: float = 1.5
    gain_share: float = 2.0
    loss_exposure: float = 0.35
    loss_hide: float = 1.4
    shrink: float = 1.0
    memory: float = 40.0
    related: float = 0.5
    sharpness: float = 40.0
    contrast: float = 0.3


RULE = ClickRule()
