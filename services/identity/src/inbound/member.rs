//! `member.list`, `member.get`, `member.invite`, `member.edit`, `member.remove`, `member.reset`, `member.invitations`, `member.cancel`.

use std::sync::Arc;

use bus::{BusError, Context, Service};
use contract::Problem;
use contract::identity::{
    Done, InvitationCancel, InvitationList, InvitationPage, Invited, Member, MemberEdit, MemberGet,
    MemberInvite, MemberList, MemberPage, MemberRemove, MemberReset, OneTimeLink,
};

use crate::app::App;
use crate::inbound::with;

pub(super) async fn answer(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    service.answer(with(app, list)).await?;
    service.answer(with(app, get)).await?;
    service.answer(with(app, invite)).await?;
    service.answer(with(app, edit)).await?;
    service.answer(with(app, remove)).await?;
    service.answer(with(app, reset)).await?;
    service.answer(with(app, invitations)).await?;
    service.answer(with(app, cancel)).await
}

async fn list(app: Arc<App>, context: Context, request: MemberList) -> Result<MemberPage, Problem> {
    Ok(app.member_list(context.grant()?, &request).await?)
}

async fn get(app: Arc<App>, context: Context, request: MemberGet) -> Result<Member, Problem> {
    Ok(app.member_get(context.grant()?, &request).await?)
}

async fn invite(
    app: Arc<App>,
    context: Context,
    request: MemberInvite,
) -> Result<Invited, Problem> {
    Ok(app.member_invite(context.grant()?, &request).await?)
}

async fn edit(app: Arc<App>, context: Context, request: MemberEdit) -> Result<Member, Problem> {
    Ok(app.member_edit(context.grant()?, &request).await?)
}

async fn remove(app: Arc<App>, context: Context, request: MemberRemove) -> Result<Done, Problem> {
    Ok(app.member_remove(context.grant()?, &request).await?)
}

async fn reset(
    app: Arc<App>,
    context: Context,
    request: MemberReset,
) -> Result<OneTimeLink, Problem> {
    Ok(app.member_reset(context.grant()?, &request).await?)
}

async fn invitations(
    app: Arc<App>,
    context: Context,
    request: InvitationList,
) -> Result<InvitationPage, Problem> {
    Ok(app.invitation_list(context.grant()?, &request).await?)
}

async fn cancel(
    app: Arc<App>,
    context: Context,
    request: InvitationCancel,
) -> Result<Done, Problem> {
    Ok(app.invitation_cancel(context.grant()?, &request).await?)
}
