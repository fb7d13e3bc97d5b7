//! COMMITs whose fate the process cannot see: lost on the way there, on the way back, late, or stuck while another try
//! goes through. Sums stay exact and every receipt resolves.

use std::time::Duration;

use zmsg_core::engine::{Receipt, Zmsg};

use crate::scene::{Scene, accept, like, likes, rounds};
use crate::support::engine::{until, within};
use crate::support::proxy::{Action, Cut, Kind, Proxy, Rule, Trigger, commit, commit_answer, from_client};

/// Far below the time of one try, which ends what nobody cuts.
const SOON: Duration = Duration::from_secs(15);

/// An engine behind a proxy. It flushes when a test says so and, after a failure, by itself.
struct Cuts {
    scene: Scene,
    proxy: Proxy,
    zm: Zmsg,
    expected: i64,
}

impl Cuts {
    async fn new() -> Cuts {
        let scene = Scene::new().await;
        let proxy = Proxy::start(&scene.database.dsn).await;
        let zm = scene.setup.clone().postgres_behind(&proxy, &scene.database).open().await;
        // From here on the watermark is there, and a round meets nothing but its flush.
        accept(&zm, like("f1")).await;
        zm.flush().await.unwrap();
        Cuts { scene, proxy, zm, expected: 1 }
    }

    /// Likes in two rows, so that a part of them would show.
    async fn like(&mut self, round: u32) -> Vec<Receipt> {
        let mut receipts = Vec::new();
        for n in 0..1 + i64::from(round % 3) {
            receipts.push(accept(&self.zm, likes("f1").inc(n + 1).build().unwrap()).await);
            receipts.push(accept(&self.zm, likes("f2").inc(n + 1).build().unwrap()).await);
            self.expected += n + 1;
        }
        receipts
    }

    /// Whatever the flush says: the background goes on, and the receipts say that it is over.
    async fn settled(&self, round: u32, receipts: Vec<Receipt>) {
        for receipt in receipts {
            within(SOON, "a flush after a cut", receipt.done()).await.unwrap();
        }
        let found = self.scene.likes().await;
        let expected = [("f1".to_owned(), self.expected), ("f2".to_owned(), self.expected - 1)];
        assert_eq!(found, expected.into(), "round {round}");
    }

    async fn cut_often(mut self, cut: Cut) {
        for round in 0..rounds(20, 500) {
            let receipts = self.like(round).await;
            self.proxy.arm(cut);
            // It may fail, be told later, or not notice anything.
            let _ = self.zm.flush().await;
            self.settled(round, receipts).await;
            assert_eq!(self.proxy.cuts_made(), round + 1);
        }
        self.zm.close().await.unwrap();
        assert_eq!((self.scene.journals(), self.scene.count("zmsg_journals").await), (0, 0));
    }

    /// What is held arrives when the retry is over.
    async fn arrive_late_often(mut self, held: impl Fn() -> Trigger) {
        for round in 0..rounds(5, 100) {
            let rule = self.proxy.rule(held(), Action::Hold);
            let receipts = self.stick(round, &rule).await;
            self.settled(round, receipts).await;
            rule.release();
            rule.delivered().await;
            let receipts = self.like(round).await;
            self.zm.flush().await.unwrap();
            self.settled(round, receipts).await;
        }
        self.zm.close().await.unwrap();
    }

    /// Stops a flush where the rule says, cuts its connection from the client's side, and lets the retry begin.
    async fn stick(&mut self, round: u32, rule: &Rule) -> Vec<Receipt> {
        let receipts = self.like(round).await;
        let zm = self.zm.clone();
        let flushing = tokio::spawn(async move { zm.flush().await });
        rule.fired().await;
        self.proxy.cut_all();
        let _ = flushing.await.unwrap();
        receipts
    }
}

#[tokio::test]
async fn a_commit_that_never_arrives_is_sent_again() {
    Cuts::new().await.cut_often(Cut::BeforeCommit).await;
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_not_sent_again() {
    Cuts::new().await.cut_often(Cut::AfterCommit).await;
}

#[tokio::test]
async fn an_answer_that_comes_after_the_retry_changes_nothing() {
    Cuts::new().await.arrive_late_often(commit_answer).await;
}

#[tokio::test]
async fn a_flush_that_is_stuck_and_arrives_after_its_retry_has_no_effect() {
    // The watermark and whatever is sent with it.
    let flush = || from_client(Kind::Query).containing("BEGIN").with_its_flight();
    Cuts::new().await.arrive_late_often(flush).await;
}

#[tokio::test]
async fn a_commit_that_is_stuck_while_its_retry_waits_for_the_row_counts_once() {
    let mut cuts = Cuts::new().await;
    for round in 0..rounds(5, 100) {
        let rule = cuts.proxy.rule(commit(), Action::Hold);
        let receipts = cuts.stick(round, &rule).await;
        let waits =
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        until("the retry waits for the watermark", async || {
            !cuts.scene.client.query(waits, &[]).await.unwrap().is_empty()
        })
        .await;
        rule.release();
        rule.delivered().await;
        cuts.settled(round, receipts).await;
    }
    cuts.zm.close().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_dies_silently_in_a_flush_is_given_up() {
    let mut cuts = Cuts::new().await;
    for round in 0..rounds(5, 50) {
        let rule = cuts.proxy.rule(from_client(Kind::Parse).each(), Action::Blackhole);
        let commit = cuts.proxy.rule(commit(), Action::Blackhole);
        let receipts = cuts.like(round).await;
        let zm = cuts.zm.clone();
        let flushing = tokio::spawn(async move { zm.flush().await });
        until("a connection is lost", async || rule.times() + commit.times() > 0).await;
        rule.cancel();
        commit.cancel();
        // What the end of the try's time would do, at once.
        cuts.proxy.cut_all();
        let _ = flushing.await.unwrap();
        cuts.settled(round, receipts).await;
    }
    cuts.zm.close().await.unwrap();
}

#[tokio::test]
async fn what_was_refused_stays_refused_when_the_answer_is_lost() {
    let cuts = Cuts::new().await;
    for n in 0..3 {
        let poison = accept(&cuts.zm, likes("f1").inc(i64::MAX).build().unwrap()).await;
        let good = accept(&cuts.zm, like("f2")).await;
        cuts.proxy.arm(Cut::AfterCommit);
        // Nobody can be asked either, so that the next try finds out.
        cuts.proxy.refuse_after_cut();
        let _ = cuts.zm.flush().await;
        assert_eq!(cuts.proxy.cuts_made(), n + 1);
        cuts.proxy.accept_again();
        within(SOON, "the next try", good.done()).await.unwrap();
        let error = poison.done().await.unwrap_err();
        assert_eq!((error.sqlstate(), error.op_id()), (Some("22003"), Some(poison.op_id().as_str())));
    }
    assert_eq!(cuts.zm.stats().batch_dead, 3);
    cuts.zm.close().await.unwrap();
}
