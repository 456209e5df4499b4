# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#
# awk -f leaks.awk PATTERNS LEAKS: those records of LEAKS, which is kmemleak's file,
# that match none of the regular expressions in PATTERNS. A record is matched as one
# line, with a blank between its lines.
NR == FNR {
	if (NF && !/^#/)
		patterns[++count] = $0
	next
}
/^unreferenced object/ { show() }
{
	record = record $0 "\n"
	line = line " " $0
}
END { show() }

function show(  i) {
	for (i = 1; i <= count && line !~ patterns[i]; i++)
		;
	if (i > count)
		printf "%s", record
	record = line = ""
}
