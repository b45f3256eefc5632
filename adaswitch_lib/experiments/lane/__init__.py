"""The lane: a world in which a student's slips matter and a teacher's advice may fail, each by a dial.

`world` says what is right and how good advice is, `teachers` trains networks that advise so, `students` trains and scores students,
`grid` says which runs there are and makes them.
"""
