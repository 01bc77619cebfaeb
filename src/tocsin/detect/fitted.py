"""What detectors with a fitted profile share: which profile is used, that it fits, and how it is kept.

A detector reads the profile named by `--profile`, else the one that ships, or the one that it has just
fitted. A profile that was fitted on something else (model, template, blocks, positions, normalisation) is
refused.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from pathlib import Path

from tocsin.detect.activation import ActivationDetector
from tocsin.detect.profile import Profile, load_profile
from tocsin.detect.shipped import shipped_profile


class FittedDetector(ActivationDetector):
    """Base of detectors whose numbers come from a profile."""

    _fitted: Profile | None = None

    @cached_property
    def unchecked_profile(self) -> Profile:
        """The profile on disk as it is, for what must be known before it can be checked."""
        return load_profile(shipped_profile(self.info.name, self.context), self.info.name)

    @cached_property
    def _checked_profile(self) -> Profile:
        self.unchecked_profile.check(self.binding, self.version)
        return self.unchecked_profile

    @property
    def profile(self) -> Profile:
        """The profile in use.

        Raises:
            ProfileError: If there is none, it is damaged, or it was fitted on something else.
        """
        return self._fitted or self._checked_profile

    @property
    def profile_hash(self) -> str | None:
        """Hash of the profile in use."""
        return self.profile.hash

    @property
    @abstractmethod
    def own_threshold(self) -> tuple[float, str]:
        """Threshold and its source where the command line names none."""

    @property
    def threshold(self) -> tuple[float, str]:
        """Threshold on the scale of `score`, and where it comes from."""
        given = self.context.threshold
        return self.own_threshold if given is None else (given, "command line")

    def save(self, folder: Path) -> None:
        """Write the profile in use."""
        self.profile.save(folder)
