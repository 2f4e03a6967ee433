#!/usr/bin/env bash
# Check size budgets in a workflow: annotations, the step summary, one comment on the pull request.
#
# Everything that others can write comes in by environment variables and is only ever used quoted:
#   INPUT_BUDGETS     names of budgets or files, one a line; empty for all of them
#   INPUT_BASELINE    a model or snapshot to measure growth from; empty for the configured ones
#   INPUT_CONFIG      the configuration; empty for that of the folder
#   INPUT_COMMENT     "true" to keep a comment on the pull request
#   PULL_REQUEST      its number; empty outside of pull requests
#   GH_TOKEN          what the comment is written with
# GITHUB_WORKSPACE, GITHUB_REPOSITORY, GITHUB_STEP_SUMMARY and GITHUB_OUTPUT are set by the runner.
set -euo pipefail

marker='<!-- sizeforensics check -->'

folder=$(mktemp -d "${RUNNER_TEMP:-/tmp}/sizeforensics.XXXXXX")
report="$folder/sizes.md"

arguments=(--format github -o "$report" -o "$folder/sizes.json" -o "$folder/sizes.xml")
if [ -n "${INPUT_BASELINE:-}" ]; then arguments+=(--baseline "$INPUT_BASELINE"); fi
if [ -n "${INPUT_CONFIG:-}" ]; then arguments+=(--config "$INPUT_CONFIG"); fi
arguments+=(--)
while IFS= read -r word; do
    if [ -n "$word" ]; then arguments+=("$word"); fi
done <<<"${INPUT_BUDGETS:-}"

# An annotation names its file from the top of the repository, wherever the check runs.
below=''
if [[ $PWD == "${GITHUB_WORKSPACE:-$PWD}"/* ]]; then below=${PWD#"$GITHUB_WORKSPACE"/}; fi
below=${below//%/%25} below=${below//:/%3A} below=${below//,/%2C}
annotate() {
    while IFS= read -r line; do
        if [[ -n $below && $line =~ ^(::[a-z]+\ file=)([^/].*)$ ]]; then
            line="${BASH_REMATCH[1]}$below/${BASH_REMATCH[2]}"
        fi
        printf '%s\n' "$line"
    done
}

code=0
sizeforensics check "${arguments[@]}" | annotate || code=${PIPESTATUS[0]}

{
    echo "exit-code=$code"
    echo "reports=$folder"
} >>"${GITHUB_OUTPUT:-/dev/null}"

# Without a report there was nothing to check, and the line on stderr says why. An older comment must
# not go on saying that all is well.
if [ ! -f "$report" ]; then
    printf '%s\n\n## ⛔ Size budgets: not checked\n\nThe log of the step says why.\n' "$marker" >"$report"
fi
cat "$report" >>"${GITHUB_STEP_SUMMARY:-/dev/null}"

# The number of our comment, if there is one: anyone could write the marker, so the author counts,
# which is whoever the token belongs to. The token of a workflow may not ask the REST API for that.
find_comment() {
    local author
    author=$(gh api graphql -f 'query={ viewer { login } }' --jq .data.viewer.login) || return 1
    gh api --paginate "repos/$GITHUB_REPOSITORY/issues/$PULL_REQUEST/comments" \
        --jq ".[] | select((.body | startswith(\"$marker\")) and .user.login == \"$author\") | .id" |
        sed -n 1p
}

write_comment() {
    local comment
    comment=$(find_comment) || return 1
    if [ -n "$comment" ]; then
        gh api --silent --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$comment" -F "body=@$report"
    else
        gh api --silent --method POST "repos/$GITHUB_REPOSITORY/issues/$PULL_REQUEST/comments" -F "body=@$report"
    fi
}

if [ "${INPUT_COMMENT:-true}" = true ] && [[ "${PULL_REQUEST:-}" =~ ^[0-9]+$ ]]; then
    # The token of a fork's pull request may only read: that must not hide the verdict.
    write_comment || echo '::warning title=size budgets::the comment could not be written; the job needs "pull-requests: write"'
fi

exit "$code"
