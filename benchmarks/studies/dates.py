"""Dates of `CMIMEncoder`: generated, imputed and decoded ones of a synthetic table of orders.

    python -m benchmarks.studies.dates [--out DIR] [--rows 3000]

Orders are made on business days from 9 to 17, most often on Mondays and at 11. They are shipped
some business days later, from 9 to 18 and not before the order. In the case "days" the time of day
is left out. Columns, for --rows training, test and generated rows:

- shape: 1 - KS statistic between generated and training dates, least of both columns.
- closed: share of generated dates on weekends or, with times, outside the hours of the data.
- day_of_week, hour: largest error of the share of a weekday, or an hour of the day.
- order: share of generated rows in which the shipment follows the order; 1 in the data.
- decoded: mean error of decoded test rows, as a share of the range, larger of both columns.
- imputed, knn: mean absolute error in days of shipments missing in test rows, of the encoder and of
  `KNNImputer` on standardised numbers.
- features, number: R2 of ridge regression on the test rows, for a target that has a season, and
  falls from Monday to Friday and over the day, from the features and from the number of days.
"""

import warnings

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp
from sklearn.impute import KNNImputer
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.tools import parser, save
from cmim_sklearn import CMIMEncoder

DATES = ["order", "ship"]
BY_WEEKDAY = np.array([0.26, 0.22, 0.2, 0.18, 0.14])
BY_HOUR = np.array([3, 5, 6, 4, 3, 4, 4, 2]) / 31


def make_orders(n, seed, *, has_times):
    """Table of n orders of two years."""
    rng = np.random.default_rng(seed)
    days = pd.bdate_range("2022-01-03", "2023-12-29")
    share = BY_WEEKDAY[days.day_of_week]
    order = days[rng.choice(len(days), n, p=share / share.sum())].to_numpy().astype("M8[s]")
    kind = rng.choice(["book", "tool", "food"], n, p=[0.5, 0.3, 0.2])
    wait = rng.poisson(np.select([kind == "food", kind == "book"], [0.7, 2.5], 6.0))
    ship = np.busday_offset(order.astype("M8[D]"), wait, roll="forward").astype("M8[s]")
    if has_times:
        order += 3600 * rng.choice(np.arange(9, 17), n, p=BY_HOUR) + rng.integers(0, 3600, n)
        hour = np.where(wait > 0, rng.integers(9, 17, n), 17)
        ship += 3600 * hour + rng.integers(0, 3600, n)
    quantity = rng.integers(1, 9, n)
    season = np.sin(2 * np.pi * (order - order.astype("M8[Y]")) / np.timedelta64(365, "D"))
    price = 10 + 3 * quantity + 5 * (kind == "tool") + 2 * season + rng.normal(size=n)
    orders = {"order": order, "ship": ship, "kind": kind, "quantity": quantity}
    return pd.DataFrame(orders | {"price": price.round(2)})


def numbers_of(orders):
    """Orders as numbers: days since 1970, and one column for each kind."""
    out = orders.assign(**{name: days_of(orders[name]) for name in DATES})
    return pd.get_dummies(out, columns=["kind"], dtype=float)


def days_of(dates):
    return (dates - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)


def shares(dates, part):
    found = getattr(dates.dt, part).value_counts(normalize=True)
    return found.reindex(range(7 if part == "day_of_week" else 24), fill_value=0)


def generated(train, new):
    """Scores of generated rows."""
    errors = {
        part: max((shares(train[c], part) - shares(new[c], part)).abs().max() for c in DATES)
        for part in ("day_of_week", "hour")
    }
    hours = {c: sorted(set(train[c].dt.hour)) for c in DATES}
    closed = [(new[c].dt.day_of_week > 4) | ~new[c].dt.hour.isin(hours[c]) for c in DATES]
    return {
        "shape": min(1 - ks_2samp(days_of(train[c]), days_of(new[c])).statistic for c in DATES),
        "closed": max(of.mean() for of in closed),
        **errors,
        "order": (new["ship"] >= new["order"]).mean(),
    }


def imputed(encoder, train, test, seed):
    """Errors of the encoder and of `KNNImputer` in days, for a fifth of the shipments."""
    is_hidden = np.random.default_rng(seed).random(len(test)) < 0.2
    masked = test.assign(ship=test["ship"].mask(is_hidden))
    scale = StandardScaler().fit(numbers_of(train))
    knn = KNNImputer().fit(scale.transform(numbers_of(train)))
    filled = scale.inverse_transform(knn.transform(scale.transform(numbers_of(masked))))
    filled = filled[:, list(numbers_of(train)).index("ship")]
    truth, own = days_of(test["ship"]), days_of(encoder.impute(masked)["ship"])
    return {
        "imputed": (own - truth).abs()[is_hidden].mean(),
        "knn": (filled - truth).abs()[is_hidden].mean(),
    }


def linear(encoder, train, test, seed):
    """R2 of a linear model of a target that depends on month, weekday and hour, with noise."""
    rng, targets = np.random.default_rng(seed), []
    for orders in (train, test):
        at = orders["order"].dt
        season = 2 * np.cos(2 * np.pi * at.month / 12)
        signal = season - (at.day_of_week - 2) / 2 - (at.hour - 13) / 4 * (at.hour > 0)
        targets.append(signal + 0.3 * rng.normal(size=len(orders)))
    out = {}
    for name, view in {
        "features": encoder.transform,
        "number": lambda orders: days_of(orders[["order"]].stack()).to_numpy()[:, None],
    }.items():
        model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13)))
        out[name] = model.fit(view(train), targets[0]).score(view(test), targets[1])
    return out


def evaluate(n_rows, has_times, seed, **options):
    """All measures of one fit."""
    train, test = (make_orders(n_rows, of, has_times=has_times) for of in (2 * seed, 2 * seed + 1))
    encoder = CMIMEncoder(random_state=seed, **options).fit(train)
    back = encoder.inverse_transform(encoder.transform(test))
    ranges = train[DATES].max() - train[DATES].min()
    decoded = ((back[DATES] - test[DATES]).abs() / ranges).mean().max()
    return {
        **generated(train, encoder.sample(n_rows, random_state=seed)),
        "decoded": decoded,
        **imputed(encoder, train, test, seed),
        **linear(encoder, train, test, seed),
    }


def main(arguments=None):
    options = parser(__doc__)
    options.add_argument("--rows", type=int, default=3000)
    options.add_argument("--seeds", nargs="*", type=int, default=[0])
    args = options.parse_args(arguments)
    warnings.simplefilter("ignore")
    limits = {"max_iter": 3} if args.quick else {}
    n_rows, rows = (200 if args.quick else args.rows), []
    for seed in args.seeds:
        for case in ("days", "times"):
            scores = evaluate(n_rows, case == "times", seed, **limits)
            rows.append({"case": case, "seed": seed, **scores})
            print(rows[-1], flush=True)
            save(pd.DataFrame(rows), args.out, "dates.csv")
    print(pd.DataFrame(rows).groupby("case").mean().round(3).to_string())


if __name__ == "__main__":
    main()
