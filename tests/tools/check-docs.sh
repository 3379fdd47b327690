#!/usr/bin/env bash
# Checks the pages and comments of this repository: tests/tools/check-docs.sh
#
#   links    each relative link of a page leads to a file, and to a heading if it names one
#   index    README.md and docs/README.md link every page of docs/
#   paths    each path of this repository in `backticks` exists, and so does each benchmark of `--bench NAME`
#   tests    each test that docs/SPECIFICATION.md names exists, and each promise has one unless it is marked as unmet
#   metrics  each metric that the dashboard and the alert rules of dist/ name is in docs/HTTP.md
#   width    text of pages and comments of code have at most 130 columns; tables, links and code blocks are exempt
#
# Prints one line FILE:LINE: MESSAGE for each finding, and fails if there is one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export LC_ALL=C.UTF-8 # columns are characters

columns_max=130
findings=0
finding() {
  printf '%s\n' "$1"
  findings=$((findings + 1))
}

files() { # files PATTERN...: tracked files, and those that a commit would add
  git ls-files --cached --others --exclude-standard -- "$@" | while IFS= read -r file; do
    if [ -f "$file" ]; then printf '%s\n' "$file"; fi
  done
}

# numbered FILE: its lines outside of code blocks, as LINE:TEXT
numbered() {
  awk '/^[ ]*```/ { fenced = !fenced; next } !fenced { print NR ":" $0 }' "$1"
}

anchors() { # anchors FILE: the ids that its headings get
  awk '/^[ ]*```/ { fenced = !fenced; next } !fenced && /^#+ / { sub(/^#+ +/, ""); print tolower($0) }' "$1" |
    sed -E 's/`//g; s/\[([^]]*)\]\([^)]*\)/\1/g; s/[^[:alnum:] _-]//g; s/ /-/g'
}

mapfile -t pages < <(files '*.md')
mapfile -t roots < <(files | cut -d/ -f1 | sort -u) # what a path of this repository begins with
declare -A is_root
for root in "${roots[@]}"; do is_root[$root]=1; done

check_links() { # check_links FILE
  local line text target path anchor
  while IFS=: read -r line text; do
    while IFS= read -r target; do
      case $target in http://* | https://* | mailto:*) continue ;; esac
      path=${target%%#*}
      anchor=${target#"$path"}
      anchor=${anchor#\#}
      if [ -z "$path" ]; then path=$1; else path=$(dirname "$1")/$path; fi
      if [ ! -e "$path" ]; then
        finding "$1:$line: the link to $target leads nowhere"
      elif [ -n "$anchor" ] && ! anchors "$path" | grep -qxF -- "$anchor"; then
        finding "$1:$line: $path has no heading for #$anchor"
      fi
    done < <(grep -oE '\]\([^() ]+\)' <<<"$text" | sed -E 's/^\]\(//; s/\)$//')
  done < <(numbered "$1" | grep -F '](')
}

check_paths() { # check_paths FILE
  local line text word
  while IFS=: read -r line text; do
    while IFS= read -r word; do
      case $word in
        /*) continue ;; # a path of a URL or of a machine
        */*) if [ -z "${is_root[${word%%/*}]:-}" ] && [[ $word != *.rs ]]; then continue; fi ;;
        *.rs) ;;
        *) continue ;;
      esac
      if [ ! -e "$word" ] && [ ! -e "$(dirname "$1")/$word" ]; then
        finding "$1:$line: there is no $word"
      fi
    done < <(grep -oE '`[A-Za-z0-9_./-]+`' <<<"$text" | tr -d '`')
  done < <(numbered "$1" | grep -F '`')
  while IFS=: read -r line word; do
    word=${word##* }
    if [ ! -f "benches/benches/$word.rs" ]; then finding "$1:$line: there is no benchmark $word"; fi
  done < <(grep -noE -- '--bench +[a-z_]+' "$1" || true)
}

check_width() {
  local hit
  for page in "${pages[@]}"; do
    if [[ $page == docs/peers/* ]]; then continue; fi # a benchmark writes it
    while IFS= read -r hit; do
      finding "$page:${hit%%:*}: more than $columns_max columns"
    done < <(numbered "$page" | grep -E "^[0-9]+:.{$((columns_max + 1))}" | grep -vE '^[0-9]+: *\||\]\(|https?://' || true)
  done
  while IFS= read -r hit; do
    finding "$(cut -d: -f1,2 <<<"$hit"): more than $columns_max columns"
  done < <(files '*.rs' '*.go' | tr '\n' '\0' | xargs -0 grep -nE "^.{$((columns_max + 1))}" -- |
    grep -E '^[^:]+:[0-9]+:([[:space:]]*//|.*[],;(){}] // )' || true)
  while IFS= read -r hit; do
    finding "$(cut -d: -f1,2 <<<"$hit"): more than $columns_max columns"
  done < <(files '*.sh' | tr '\n' '\0' | xargs -0 grep -nE "^ *#.{$columns_max}" -- || true)
}

check_specification() {
  local page=docs/SPECIFICATION.md tests known line row name
  tests=$(git ls-files --cached --others --exclude-standard -- '*.rs' | xargs grep -hoE 'fn [a-z0-9_]+\(' | sort -u)
  while IFS=: read -r line row; do
    known=0
    while IFS= read -r name; do
      known=1
      if ! grep -qxF "fn $name(" <<<"$tests"; then finding "$page:$line: there is no test $name"; fi
    done < <(awk -F'|' '{ print $4 }' <<<"$row" | grep -oE '`[a-z0-9_]+`' | tr -d '`')
    if [ $known = 0 ] && [[ $row != *'**unmet**'* ]]; then finding "$page:$line: no test, and not marked as unmet"; fi
  done < <(grep -nE '^\| [0-9]+\.[0-9]+ \|' "$page")
}

check_index() { # check_index INDEX PREFIX: INDEX links every page of docs/ with PREFIX before its name
  local page
  for page in docs/*.md; do
    page=${page#docs/}
    if [ "docs/$page" != "$1" ] && ! grep -qE "\]\($2$page(#[^)]*)?\)" "$1"; then
      finding "$1: no link to docs/$page"
    fi
  done
}

check_metrics() {
  local file name
  for file in dist/grafana-dashboard.json dist/prometheus-alerts.yaml; do
    while IFS= read -r name; do
      # A histogram is named without the endings of its series.
      if ! grep -qE "\`(${name}|${name%_bucket}|${name%_sum}|${name%_count})[\`{]" docs/HTTP.md; then finding "$file: docs/HTTP.md has no metric $name"; fi
    done < <(grep -oE 'orama_[a-z_]+' "$file" | sort -u)
  done
}

for page in "${pages[@]}"; do
  check_links "$page"
  check_paths "$page"
done
check_specification
check_index README.md docs/
check_index docs/README.md ''
check_metrics
check_width

if [ $findings -gt 0 ]; then
  echo "$findings findings in pages and comments"
  exit 1
fi
echo "${#pages[@]} pages: links, index, paths and width are right"
