"""From who took part when to who passed it to whom: several rules, because the rule shapes the answer."""
