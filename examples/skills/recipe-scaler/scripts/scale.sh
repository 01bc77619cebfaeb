#!/bin/sh
# Scale the first column of a list: scale.sh OLD_PORTIONS NEW_PORTIONS < ingredients.txt
awk -v old="$1" -v new="$2" '{ $1 = $1 * new / old; print }'
