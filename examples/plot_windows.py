"""
Unusual days of a time series
=============================

A year of hourly loads is cut into days. On one day the meter was stuck: a detector that was fitted
to the days before finds it.
"""

# %%
# Cut the series into days
# ------------------------
# A row is a day, a column an hour; the weekday is one more column. The model learns from the past.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_vae import VAEOutlierDetector

rng = np.random.default_rng(0)
time = pd.date_range("2023-01-01", "2023-12-31 23:00", freq="h")
day = np.sin(2 * np.pi * (time.hour - 8) / 24) * np.where(time.day_of_week < 5, 1.0, 0.4)
load = pd.Series(10 + 3 * day + rng.normal(scale=0.3, size=len(time)), index=time)
load["2023-11-07 09:00":"2023-11-07 19:00"] = load["2023-11-07 09:00"]

hours = [f"h{hour:02}" for hour in range(24)]
days = pd.DataFrame(load.to_numpy().reshape(-1, 24), index=time[::24], columns=hours)
days["weekday"] = days.index.day_name()
train, new = days[:"2023-09-30"], days["2023-10-01":]

detector = VAEOutlierDetector(contamination=0.01, novelty=True, random_state=0).fit(train)
score = pd.Series(detector.score_samples(new), index=new.index)

# %%
# The flagged day
# ---------------

is_flagged = score < detector.offset_
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
left.plot(range(24), new.loc[~is_flagged, hours].T, color="gray", alpha=0.25, lw=0.8)
left.plot(range(24), new.loc[is_flagged, hours].T, color="C3", lw=2)
left.set(xlabel="hour of the day", ylabel="load", title="Days since October")
right.axhline(detector.offset_, color="gray", ls="--", lw=1)
right.scatter(score.index, score, s=12, color="gray")
right.scatter(score.index[is_flagged], score[is_flagged], s=30, color="C3")
right.set(ylabel="score (low is unusual)", title="Their scores, and the threshold")
right.tick_params(axis="x", rotation=30)
plt.show()

print(", ".join(str(date.date()) for date in score.index[is_flagged]))
